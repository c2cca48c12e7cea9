"""What the package offers in Python: one function per task, each with a result that prints, draws and saves itself."""
