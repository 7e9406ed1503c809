"""The Space: the page that `hfmem-web` serves, at the address and port that a Space is asked at."""

import sys

from hfmem.web.__main__ import main

main(["--host", "0.0.0.0", "--port", "7860", *sys.argv[1:]])  # noqa: S104 - a container's only way to be asked
