"""`/openapi.json`: what the service answers, as a contract that clients are generated from."""
