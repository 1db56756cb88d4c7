"""What Icarus Verilog needs of an ECP5's blocks, of which yosys has names and pins alone; written from data sheets."""

CELLS = ("-I/usr/share/yosys/ecp5", "/usr/share/yosys/ecp5/cells_sim.v")
"""Yosys' models of all other cells, and where they include files."""


def _pins(name: str, count: int) -> str:
    """The pins of a bus, the highest first."""
    return ", ".join(f"{name}{bit}" for bit in reversed(range(count)))


# As far as tsn_multiply uses it: registers of factors and of the product, one enable.
MULTIPLIER = f"""
module MULT18X18D #(
    parameter REG_INPUTA_CLK = "NONE", REG_INPUTA_CE = "CE0", REG_INPUTA_RST = "RST0", REG_INPUTB_CLK = "NONE",
    parameter REG_INPUTB_CE = "CE0", REG_INPUTB_RST = "RST0", REG_OUTPUT_CLK = "NONE", REG_OUTPUT_CE = "CE0",
    parameter REG_OUTPUT_RST = "RST0", GSR = "ENABLED"
) (
    input {_pins("A", 18)}, {_pins("B", 18)}, SIGNEDA, SIGNEDB, SOURCEA, SOURCEB, CLK0, CE0, RST0,
    output {_pins("P", 36)}
);
    wire [17:0] a = {{{_pins("A", 18)}}}, b = {{{_pins("B", 18)}}};
    reg [17:0] a_held, b_held;
    reg signed [35:0] p;
    wire [17:0] left = REG_INPUTA_CLK == "CLK0" ? a_held : a, right = REG_INPUTB_CLK == "CLK0" ? b_held : b;
    wire signed [18:0] wide_left = {{SIGNEDA & left[17], left}}, wide_right = {{SIGNEDB & right[17], right}};
    wire signed [35:0] product = wide_left * wide_right;
    wire [35:0] given = REG_OUTPUT_CLK == "CLK0" ? p : product;
    always @(posedge CLK0) begin
        if (RST0) {{a_held, b_held, p}} <= 0;
        else if (CE0) begin
            {{a_held, b_held}} <= {{a, b}};
            p <= product;
        end
    end
    assign {{{_pins("P", 36)}}} = given;
endmodule
"""

_CONTENT = ", ".join(f"INITVAL_{line:02X} = 0" for line in range(64))
_FILLED = "\n".join(f"        fill({line}, INITVAL_{line:02X});" for line in range(64))
_PORT = """
    wire [13:0] place_PORT = {address};
    wire [17:0] written_PORT = {data};
    wire [35:0] all_PORT = {all};
    reg [35:0] read_PORT = 0, held_PORT = 0;
    always @(posedge CLKPORT) begin
        if (CEPORT) begin
            for (i = 0; i < DATA_WIDTH_PORT; i = i + 1) begin
                read_PORT[i] <= WEPORT ? 'bx : content[first(place_PORT, DATA_WIDTH_PORT) + i];
                if (WEPORT && (DATA_WIDTH_PORT < 18 || place_PORT[i / 9]))
                    content[first(place_PORT, DATA_WIDTH_PORT) + i] <= all_PORT[i];
            end
        end
        if (OCEPORT) held_PORT <= read_PORT;
    end
    wire [35:0] given_PORT = REGMODE_PORT == "OUTREG" ? held_PORT : read_PORT;
"""


def _port(letter: str, written: str) -> str:
    text = _PORT.replace("{address}", f"{{{_pins(f'AD{letter}', 14)}}}").replace(
        "{data}", f"{{{_pins(f'DI{letter}', 18)}}}"
    )
    return text.replace("{all}", written).replace("PORT", letter)


# Two ports, each with a register that OCE enables and CE does not; words below 9 bits leave every ninth bit out; what
# is 36 bits wide is written at port A and read at port B, with the pins of both. An output has no value after a write.
BLOCK_RAM = f"""
module DP16KD_MODEL #(
    parameter DATA_WIDTH_A = 18, DATA_WIDTH_B = 18, REGMODE_A = "NOREG", REGMODE_B = "NOREG", RESETMODE = "SYNC",
    parameter ASYNC_RESET_RELEASE = "SYNC", CSDECODE_A = "0b000", CSDECODE_B = "0b000", CLKAMUX = "CLKA",
    parameter CLKBMUX = "CLKB", WRITEMODE_A = "NORMAL", WRITEMODE_B = "NORMAL", GSR = "ENABLED",
    parameter [319:0] {_CONTENT}
) (
    input {_pins("DIA", 18)}, {_pins("ADA", 14)}, CEA, OCEA, CLKA, WEA, RSTA, {_pins("CSA", 3)},
    input {_pins("DIB", 18)}, {_pins("ADB", 14)}, CEB, OCEB, CLKB, WEB, RSTB, {_pins("CSB", 3)},
    output {_pins("DOA", 18)}, {_pins("DOB", 18)}
);
    reg content[0:18431];
    integer i;
    task fill(input integer line, input [319:0] bits);
        for (i = 0; i < 288; i = i + 1) content[288 * line + i] = bits[i / 18 * 20 + i % 18];
    endtask
    initial begin
{_FILLED}
    end
    function integer first(input [13:0] place, input integer width);
        case (width)
            36: first = place[13:5] * 36;
            18: first = place[13:4] * 18;
            9: first = place[13:3] * 9;
            4: first = place[13:2] * 4 + place[13:3];
            2: first = place[13:1] * 2 + place[13:3];
            default: first = place + place[13:3];
        endcase
    endfunction
{_port("A", "(DATA_WIDTH_A == 36 ? {written_B, written_A} : {18'bx, written_A})")}{_port("B", "{18'bx, written_B}")}
    assign {{{_pins("DOA", 18)}}} = DATA_WIDTH_B == 36 ? given_B[17:0] : given_A[17:0];
    assign {{{_pins("DOB", 18)}}} = DATA_WIDTH_B == 36 ? given_B[35:18] : given_B[17:0];
endmodule
"""


def simulated(netlist: str) -> str:
    """A netlist of yosys with models of what its own have none of."""
    return MULTIPLIER + BLOCK_RAM + netlist.replace("  DP16KD #(", "  DP16KD_MODEL #(")
