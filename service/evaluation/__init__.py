"""A version and labelled rows -> a report, values only; the prevalence of unlabelled rows."""
