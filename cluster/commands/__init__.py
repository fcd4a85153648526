"""Groups of commands of ``m2dao-cluster``."""
