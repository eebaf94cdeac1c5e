"""The campaigns room: did a campaign cause anything, and did it pay."""
