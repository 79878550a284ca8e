"""The command: thin verbs over use cases."""
