# Vivado: the clock of the accelerator where it is synthesized by itself. In a block design the clock comes from there.
create_clock -name aclk -period 10.000 [get_ports aclk]
