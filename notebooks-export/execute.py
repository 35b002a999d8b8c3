"""Runs every cell of a notebook in place and keeps the outputs; the kernel starts in the current folder.

usage: execute.py NOTEBOOK
"""
import os
import sys

import nbclient
import nbformat

path = sys.argv[1]
notebook = nbformat.read(path, as_version=4)
nbclient.NotebookClient(notebook, timeout=600, resources={"metadata": {"path": os.getcwd()}}).execute()
for cell in notebook.cells:
    cell.metadata.pop("execution", None)  # wall-clock times would change with every export
notebook.metadata.language_info = {"name": "python"}
nbformat.validate(notebook)
temporary = path + ".tmp"
nbformat.write(notebook, temporary)
os.replace(temporary, path)
