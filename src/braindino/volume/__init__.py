"""From a file to slices: verified reading, brain mask, the one preprocessing recipe, the cut. numpy only."""
