"""How is encoding spread over several devices?"""
