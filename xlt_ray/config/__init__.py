"""The sweep file: what a user can write in it, as frozen values."""
