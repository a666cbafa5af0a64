"""Processes that share agents: the hosts there are, and the links between them."""
