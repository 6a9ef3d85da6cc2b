"""How near a picture is to pictures and to words."""
