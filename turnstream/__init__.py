"""The shell around the pipeline: settings, wiring, command line, telemetry and the local stack."""

__version__ = "0.1.0"
