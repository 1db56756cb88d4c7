"""HLS projects."""
