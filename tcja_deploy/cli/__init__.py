"""tcja-deploy."""
