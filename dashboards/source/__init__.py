"""What the dashboards, rules and alerts are made of; `dashboards/make.py` writes them."""
