"""How good a fitted potential is: accuracy, speed, stability in MD."""
