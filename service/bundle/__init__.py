"""What lies in the model repository: manifests, calibration records, published versions and how they get there."""
