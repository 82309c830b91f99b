"""A page in the browser to watch a run: reads its folder and its status, and changes nothing."""
