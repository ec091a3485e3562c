"""The Pusher: component.py pushes, settings.py says under which name."""
