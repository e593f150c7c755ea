"""`overseer demo`: a development chain's whole story on a real node, shown live and checked against what it must come to."""
