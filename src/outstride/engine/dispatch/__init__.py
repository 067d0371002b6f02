"""From a call of torch's to the contractions: checked, guarded, registered, traced."""
