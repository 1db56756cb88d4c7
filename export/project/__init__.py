"""What HLS and RTL projects share."""
