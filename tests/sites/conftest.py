"""What the tests of sites share is in `site_world`."""
