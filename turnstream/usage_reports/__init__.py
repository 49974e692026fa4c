"""Questions to the usage files, as SQL that ships with them."""
