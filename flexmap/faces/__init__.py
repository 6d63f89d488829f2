"""Where values are served: one package for each face, behind one small interface."""
