"""A seeded model of meters behind one substation: sans-io, time is passed in; ``source`` runs it on a reactor."""
