"""Studies: training methods compared over seeds, as the papers' tables have them."""
