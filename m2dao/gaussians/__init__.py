"""Gaussians: raw parameters, spherical-harmonic colours, first seeds and density control."""
