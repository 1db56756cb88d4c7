"""``tsn-hw report``: one HTML page that opens from disk and says what a network is, does and costs."""
