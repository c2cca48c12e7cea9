"""`python -m tcja_deploy` is `tcja-deploy`."""

from tcja_deploy.cli import main

if __name__ == "__main__":
    main()
