"""Published versions from other places into a repository on disk: checked, resumed, and whole or not at all."""
