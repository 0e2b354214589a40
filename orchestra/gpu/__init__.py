"""GPUs: what NVML says about them (probe) and who may use them (leases)."""
