# Quartus, OpenSTA and others: the clock of the accelerator where it is synthesized by itself. Periods are in ns.
create_clock -name aclk -period 10.000 [get_ports aclk]
