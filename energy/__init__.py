"""Installed as `tcja_deploy.energy`."""

if __name__ != "tcja_deploy.energy":
    raise ImportError("this package is called tcja_deploy.energy: write 'import tcja_deploy.energy'")
