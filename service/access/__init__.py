"""Who calls: credentials, scopes, quotas; knows no HTTP."""
