"""What `scripts/bench` measures, and how: floors, peers and ours, doing the same work in alternation."""
