"""Compare renders with real images and with their prompts."""
