"""Reports: what was seen, put into figures. Reads no database of its own accord and writes nothing."""
