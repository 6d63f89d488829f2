"""The checker's rules, one file a subject; each takes a context and reports findings into it."""
