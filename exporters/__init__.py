"""The targets that networks are exported to; installed as `tcja_deploy.exporters`."""

if __name__ != "tcja_deploy.exporters":
    raise ImportError("this package is called tcja_deploy.exporters: write 'import tcja_deploy.exporters'")
