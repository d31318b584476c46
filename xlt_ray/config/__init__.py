"""The sweep file: what a user may ask for, as frozen values. Light: pydantic and yaml."""
