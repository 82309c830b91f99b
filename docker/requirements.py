"""Print the requirements of some extras of pyproject.toml, one a line.

An image installs these before it copies the code, so that a change of code leaves the layer with
the packages as it is.

    python3 requirements.py pyproject.toml server
"""

import sys
import tomllib
from pathlib import Path

project = tomllib.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))["project"]
extras = project["optional-dependencies"]
unknown = sorted(set(sys.argv[2:]) - set(extras))
if unknown:
    sys.exit(f"{sys.argv[1]} has no extra {', '.join(unknown)}; it has {', '.join(sorted(extras))}")
wanted = [*project["dependencies"], *(line for name in sys.argv[2:] for line in extras[name])]
sys.stdout.write("".join(f"{line}\n" for line in dict.fromkeys(wanted)))
