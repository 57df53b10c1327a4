"""Networks: bridge, addresses, ports, DNS, endpoints."""
