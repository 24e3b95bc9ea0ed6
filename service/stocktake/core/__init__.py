"""Pure values and decisions: no clock, no log, no environment, no database, no network."""
