"""The plain networks that dynamic and compact ones are made from and measured against."""
