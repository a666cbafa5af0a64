"""The documentation as a site: what Sphinx needs beside the pages. Started by `scripts/docs`."""
