"""What moves the states: the gains of a rule, the energies of errors, and the ways to descend them."""
