"""Training with the losses of `core.losses`, on torch; needs the extra `train`. The service never imports it."""
