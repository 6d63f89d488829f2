"""SCL: IEC 61850-6 files generated from the one table, and checked."""
