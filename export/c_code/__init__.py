"""A network as C99 for microcontrollers: constants in flash beside a runtime that is the same for all networks."""
