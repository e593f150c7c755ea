"""`votes_db`: every dispute vote of every validator for a fixed number of sessions."""
