"""`python -m example_project WORD…`: look something up in the newest census."""

import sys

from example_project.index import search
from example_project.tasks import census_folder

if __name__ == "__main__":
    found = census_folder() / "index.db"
    if not found.exists():
        sys.exit("there is no census yet; run: make demo")
    for path, line, name in search(found, " ".join(sys.argv[1:])):
        print(f"{path}:{line}: {name}")
