"""Former name of fastreid_fixes; ``python -m igoas_plugin.host`` prints the new one."""

if __name__ == "__main__":
    print("igoas_plugin.host is now igoas_plugin.fastreid_fixes: run python -m igoas_plugin.fastreid_fixes")
